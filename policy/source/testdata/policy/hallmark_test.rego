package hallmark_test

import data.hallmark

test_service if hallmark.decision.verdict == "allow" with input as {"subject": {"type": "service"}}

test_nobody if hallmark.decision.verdict == "deny" with input as {"subject": {"type": "device"}}
