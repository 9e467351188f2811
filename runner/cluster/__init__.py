"""Parts of a job on many machines, by the function that does them on one."""
