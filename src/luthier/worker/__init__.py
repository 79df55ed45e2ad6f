"""The only room that sees the whole house: it leases jobs from the office and runs the workshop's five stages for them."""
