"""The process of --admin: metrics, health and the dashboard, beside the services. An ASGI application on our own stack.

    settings   what it is told at its start
    app        from a request to its response: access, then a route
    routing    a route
    messages   a request and a response of this application
    access     who may ask: Host, Origin, token. Pure
    line       its connection to the supervisor
    health     whether the services are ready, from a status. Pure
    dashboard  the routes of the dashboard
    actions    the routes of its buttons
    sampler    asks for a status once a second
    history    15 minutes of numbers, from statuses. Pure
    journal    the last events as sentences. Pure
    snapshot   what a page shows at a moment. Pure
    html       the first page, with the numbers of the moment. Pure
    feed       the pages that are open, and the snapshots for them
    assets     the files in pages/
    exporting  sends the metrics to an OpenTelemetry collector

It may die without harm: the supervisor starts another one, and no service notices.
"""
