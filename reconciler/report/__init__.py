"""Plans, results, statuses, errors → text or JSON. Pure: no decision is made here, nothing is looked at."""
