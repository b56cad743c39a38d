"""From text to answers, times and boxes, and from questions to chats. Pure functions."""
