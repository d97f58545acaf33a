package hallmark_test

import data.hallmark

of_service(id, action) := verdict if {
	verdict := hallmark.decision.verdict with input as {
		"subject": {"type": "service", "id": id, "properties": {"signed": true, "roles": []}},
		"action": {"name": action, "properties": {"base": "sha256:00", "note": "from main"}},
		"resource": {"type": "policy", "id": "06h0ksg103pjsk82", "properties": {}},
		"context": {},
	}
}

test_bundle_server_proposes if of_service("bundle:main", "policy.propose") == "allow"

test_bundle_server_does_nothing_else if {
	of_service("bundle:main", "policy.approve") == "deny"
	of_service("bundle:main", "policy.activate") == "deny"
	of_service("bundle:main", "device.show") == "deny"
}

test_other_service_does_not_propose if of_service("hallmark", "policy.propose") == "deny"
