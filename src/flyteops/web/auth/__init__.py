"""Authorization: the authenticator of the API, its policy, and the tokens that it accepts."""
