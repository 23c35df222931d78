"""The provider: a defence is a function from model to model (`Defense(settings)(model) -> model`)."""
