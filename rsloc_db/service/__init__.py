"""The service: what is stored, as a map page and a JSON API, and a queue for images whose place is asked for.

``app.create_app`` puts it together from one router a noun; ``page/`` is the page, plain HTML, CSS and ES modules.
"""
