"""A frozen network in place of raw samples: the options `features.*`."""
