"""Binary masks over the weights of one network: layers, search, storage, task inference. For SupSup and its kin."""
