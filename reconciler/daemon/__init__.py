"""The daemon: one loop that waits for everything at once and blocks on nothing. All work is done by passes in processes
of their own, which may hang, be killed and crash as they like: the loop goes on, and the next pass puts it right."""
