class CallbackBody:
    body: bytes
    uid: str
    request_id: str
    scene_id: str
    items: int
    @staticmethod
    def read(body: bytes) -> CallbackBody | None: ...
    def record(self, time: int, fingerprint: str, kept: int) -> bytes: ...
