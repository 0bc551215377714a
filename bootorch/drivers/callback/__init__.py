"""Where ansible-playbook loads our callback plugin from. Nothing else may lie here: Ansible looks at all of it."""
