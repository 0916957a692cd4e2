"""Configs: frozen settings, read from YAML files and changed by flags."""

from metarl.config.loading import ABSENT, difference, from_dict, known_options, load, options, override, save, to_dict

__all__ = ["ABSENT", "difference", "from_dict", "known_options", "load", "options", "override", "save", "to_dict"]
