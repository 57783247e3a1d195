"""Where rows come from: files, S3, databases, HTTP APIs and Python functions, behind one contract (`base.Source`)."""
