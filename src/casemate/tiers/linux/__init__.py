"""The process tier on Linux: namespaces, Landlock, seccomp, limits."""
