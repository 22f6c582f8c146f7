"""What intake and alert both know of people: responders, their answers, places, and open cases."""
