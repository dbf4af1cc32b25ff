"""Active learning: the windows of unlabelled recordings that are most worth a label, and a page to label them."""
