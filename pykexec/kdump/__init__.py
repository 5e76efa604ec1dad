"""`pykdump`: kdump as a service: its configuration, sizing, diagnosis and capture system."""
