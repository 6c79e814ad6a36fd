"""The supervisor: the program that is PID 1 of every sandbox, and the protocol it speaks."""
