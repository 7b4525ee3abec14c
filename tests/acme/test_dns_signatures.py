"""That the judges of signatures in tests judge as the real ones: each takes an example that its provider has published."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from tests.kit.dns_providers import Asked, ali_objection, huawei_objection, tencent_objection

ALI = (
    "Timestamp=2016-02-23T12%3A46%3A24Z&Format=XML&AccessKeyId=testid&Action=DescribeRegions&SignatureMethod=HMAC-SHA1"
    "&SignatureNonce=3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf&Version=2014-05-26&SignatureVersion=1.0&Signature=OLeaidS1JvxuMvnyHOwuJ%2BuX5qY%3D"
)
"""Of "Request signatures" (ECS), with the secret `testsecret`."""
ALI_TIME = datetime(2016, 2, 23, 12, 46, 24, tzinfo=UTC).timestamp()


def test_the_published_example_of_ali_is_taken() -> None:
    assert ali_objection("GET", ALI, "testid", "testsecret", ALI_TIME) == ""
    assert ali_objection("GET", ALI, "testid", "testsecreT", ALI_TIME) == "SignatureDoesNotMatch"
    assert ali_objection("GET", ALI.replace("Regions", "Zones"), "testid", "testsecret", ALI_TIME) == "SignatureDoesNotMatch"
    assert ali_objection("GET", ALI, "testid", "testsecret", ALI_TIME + 1000) == "InvalidTimeStamp.Expired"
    assert ali_objection("GET", ALI, "another", "testsecret", ALI_TIME) == "InvalidAccessKeyId.NotFound"


TENCENT = Asked(
    method="POST",
    path="/",
    query="",
    headers={
        "content-type": "application/json; charset=utf-8",
        "host": "cvm.tencentcloudapi.com",
        "x-tc-timestamp": "1551113065",
        "authorization": (
            "TC3-HMAC-SHA256 Credential=AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE/2019-02-25/cvm/tc3_request, "
            "SignedHeaders=content-type;host, Signature=72e494ea809ad7a8c8f7a4507b9bddcbaa8e581f516e8da2f66e2c5a96525168"
        ),
    },
    body=b'{"Limit": 1, "Filters": [{"Values": ["\\u672a\\u547d\\u540d"], "Name": "instance-name"}]}',
)
"""Of "Signature v3"."""
TENCENT_ID, TENCENT_SECRET = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE", "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE"


def test_the_published_example_of_tencent_is_taken() -> None:
    def objection(asked: Asked = TENCENT, key: str = TENCENT_ID, secret: str = TENCENT_SECRET, now: float = 1551113065) -> str:
        return tencent_objection(asked, key, secret, now, "cvm")

    assert objection() == ""
    assert objection(secret="Gu5t9xGARNpq86cd98joQYCN3EXAMPLF") == "AuthFailure.SignatureFailure"
    assert objection(replace(TENCENT, body=TENCENT.body + b" ")) == "AuthFailure.SignatureFailure"
    assert objection(now=1551113065 + 400) == "AuthFailure.SignatureExpire"
    assert objection(key="AKIDother") == "AuthFailure.SecretIdNotFound"


HUAWEI = Asked(
    method="GET",
    path="/v1/77b6a44cba5143ab91d13ab9a8ff44fd/vpcs",
    query="limit=2&marker=13551d6b-755d-4757-b956-536f674975c0",
    headers={
        "content-type": "application/json",
        "host": "service.region.example.com",
        "x-sdk-date": "20191115T033655Z",
        "authorization": (
            "SDK-HMAC-SHA256 Access=QTWAOYTTINDUT2QVKYUC, SignedHeaders=content-type;host;x-sdk-date, "
            "Signature=7be6668032f70418fcc22abc52071e57aff61b84a1d2381bb430d6870f4f6ebe"
        ),
    },
    body=b"",
)
"""Of "AK/SK signing and authentication algorithm"."""
HUAWEI_ID, HUAWEI_SECRET = "QTWAOYTTINDUT2QVKYUC", "MFyfvK41ba2giqM7Uio6PznpdUKGpownRZlmVmHc"
HUAWEI_TIME = datetime(2019, 11, 15, 3, 36, 55, tzinfo=UTC).timestamp()


def test_the_published_example_of_huawei_is_taken() -> None:
    def objection(asked: Asked = HUAWEI, key: str = HUAWEI_ID, secret: str = HUAWEI_SECRET, now: float = HUAWEI_TIME) -> str:
        return huawei_objection(asked, key, secret, now)

    assert objection() == ""
    assert objection(secret="x" * 40).endswith("verify aksk signature fail")
    assert objection(replace(HUAWEI, query="limit=3&marker=13551d6b-755d-4757-b956-536f674975c0")).endswith("verify aksk signature fail")
    assert objection(now=HUAWEI_TIME + 1000).endswith("signature expired")
    assert objection(key="other") != ""
