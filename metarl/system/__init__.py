"""What the operating system gives: files, cores and memory, threads, time."""
