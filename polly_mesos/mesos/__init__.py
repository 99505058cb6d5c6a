"""All that speaks Mesos' protocols; imports only the model and the errors."""
