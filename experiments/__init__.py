"""The referee: exams, configs, plan, measurement, report and tracking."""
