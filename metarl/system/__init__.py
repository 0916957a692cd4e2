"""What the operating system gives: files, cores and memory, threads, processes that train together, time."""
