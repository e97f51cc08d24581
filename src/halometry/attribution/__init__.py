"""Attribution maps: how much each pixel contributes to a prediction."""
