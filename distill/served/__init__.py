"""Models behind a server of the researcher's own: `model` is one as the rest of the toolkit meets
it.

    model -> query -> connection (-> address) -> response (-> logprobs) -> response_log

`request_options` say how it is asked, `protocol` is what crosses, and `probe` tries a server before
it is asked in earnest.
"""
