"""A data centre on 127.0.0.0/8: real IPMI packets, real SSH hosts. What operators rehearse on."""
