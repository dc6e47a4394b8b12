"""Time until a new item has moved by an event, under a flood of others, and what learning from events costs."""
