"""The console: the platform in the browser, beside a server or alone on a workspace.

A page is one file in :mod:`rf_console.pages`, one template, and one line of registration:

1. ``pages/NAME.py`` has a tuple ``ROUTES``: a :class:`~rf_console.web.routes.Page` for each address, with a function that reads
   what its template shows (``read(visit) -> mapping``); a :class:`~rf_console.web.routes.Change` for each thing that can be
   changed, with a question (``ask``) and the change itself (``make``); an :class:`~rf_console.web.routes.Endpoint` for anything
   that is no page of the console, such as a stream or an image.
2. ``templates/NAME.html`` extends ``base.html`` and fills ``content``. Values are escaped everywhere. Filters: ``number``,
   ``percent``, ``ms`` (of seconds), ``ago`` (a time, relative, with the absolute one on hover), ``text`` (a feature's value).
   ``{{ change_form("/path", {"name": "value"}, "Label", "quiet") }}`` is a button that asks for a change; a form of one's own has
   ``method="post"`` and ``{{ csrf_field() }}``. ``<div class="chart" data-chart="...">`` is a chart, see ``overview.html``.
3. ``pages/__init__.py`` names the module in ``ROOMS``; the order there is that of the navigation.

Functions run in a thread and get a :class:`~rf_console.web.visit.Visit`: fields of the query or the form (``visit.value("q")``,
``visit.whole("page", 1)``), parts of the path (``visit.params``), the caller, and the console (``visit.console.registry`` and
``.settings``). Calls to the server go with the caller's own token through ``visit.client``. An
:class:`~rf_platform.errors.RfError` becomes a page with its message. What a role may not do is checked by the routes, once:
templates ask ``visit.may(roles.WRITE)`` to leave buttons away.
"""
