"""Pictures of strangers: checked by their bytes, made small, freed of what they tell about their maker."""
