"""A user's own data as a stream, without code: folders of images, tables, data sets of the Hugging Face hub."""
