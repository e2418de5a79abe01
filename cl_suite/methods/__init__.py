"""The toolbox strategies are made of: the training loop, replay buffers, Fisher, gradient vectors."""
