"""A study's defended teacher behind the OpenAI protocol on this machine, for red teams."""
