"""What a prompt needs, as pure rules: values in, values out."""
