"""Figures: PNG files, or SVG text for a page."""
