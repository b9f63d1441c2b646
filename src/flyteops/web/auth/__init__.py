"""Authorization: the authenticator in front of the API, its policy, and the tokens that it accepts."""
