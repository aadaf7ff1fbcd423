"""What is forecast: the task language, the tasks themselves (one YAML file each), and their labels."""
