"""From a request to a record: configure, plan, refuse, load, learn and score, save."""
