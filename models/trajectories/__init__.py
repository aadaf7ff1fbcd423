"""The course of laboratory values and vital signs: quantile forecasts, judged against simple ones."""
