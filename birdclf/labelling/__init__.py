"""Which windows of unlabelled recordings are worth a label most, and a page to listen to them and label them."""
