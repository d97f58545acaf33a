# Tests of the roles that data.json has at first. They are about your own data:
# change them along with it.
package hallmark_test

import data.hallmark

every_action := {
	"anchor.add", "anchor.list", "anchor.remove", "attestation.show", "audit.read", "backup.create", "baseline.activate",
	"baseline.add", "baseline.deny", "baseline.deprecate", "baseline.learn", "baseline.list", "baseline.show",
	"breakglass.open", "breakglass.seal", "certificate.list", "certificate.revoke", "certificate.show", "decision.list", "decision.show",
	"device.import", "device.list", "device.quarantine", "device.release", "device.retire", "device.show", "device.unbind",
	"operator.add", "operator.assign", "operator.certify", "operator.list", "operator.remove", "operator.renew",
	"operator.resume", "operator.revoke", "operator.show", "operator.suspend", "policy.activate", "policy.approve",
	"policy.explain", "policy.fetch", "policy.history", "policy.list", "policy.propose", "policy.reject", "policy.replay",
	"policy.rollback", "policy.show", "policy.withdraw", "request.approve", "request.deny", "request.list", "request.show",
	"session.create", "session.end", "session.list", "session.show", "token.create", "token.list", "token.revoke",
}

# What an operator with that role alone may do, to something that belongs to somebody else.
may(role) := {action |
	some action in every_action
	question := {
		"subject": {"type": "user", "id": "rob", "properties": {"roles": [role], "scopes": {}}},
		"action": {"name": action, "properties": {}},
		"resource": {"type": "device", "id": "gw-1", "properties": {}},
		"context": {"time": "2026-11-23T21:00:00.000Z"},
	}
	hallmark.decision.verdict == "allow" with input as question with data.settings as unguarded
}

unguarded := object.union(data.settings, {"four_eyes": [], "windows": [], "rates": []})

looks := {action |
	some action in every_action
	regex.match(`\.(list|show|read|history|explain|fetch)$`, action)
}

test_an_admin_and_nobody_else_may_do_everything if {
	may("admin") == every_action
	every role in ["viewer", "line", "fleet", "security", "approver", "auditor", "gateway"] {
		count(every_action - may(role)) > 10
		count(may(role) & {"operator.add", "operator.assign", "operator.certify", "breakglass.seal", "breakglass.open", "backup.create"}) == 0
	}
	may("nobody") == set()
}

test_who_only_looks_changes_nothing if {
	every role in ["viewer", "auditor", "gateway"] {
		may(role) - looks == set()
	}
}

test_an_auditor_reads_all_evidence if {
	looks - may("auditor") == set()
}

test_the_line_prepares_devices_and_decides_nothing if {
	{"device.import", "token.create", "token.revoke"} - may("line") == set()
	may("line") & {"device.release", "device.quarantine", "request.approve"} == set()
}

test_the_fleet_is_stopped_and_let_go_by_its_operators if {
	{"device.quarantine", "device.release", "device.retire", "request.approve", "request.deny"} - may("fleet") == set()
	may("fleet") & {"device.unbind", "baseline.activate", "anchor.add", "policy.propose"} == set()
}

test_who_proposes_a_policy_does_not_approve_it if {
	{"policy.propose", "policy.replay", "policy.activate", "policy.rollback", "policy.withdraw"} - may("security") == set()
	{"policy.approve", "policy.reject", "request.approve", "request.deny"} - may("approver") == set()
	not "policy.approve" in may("security")
	may("approver") & {"policy.propose", "policy.activate", "policy.rollback"} == set()
}

test_a_gateway_fetches_the_policy if may("gateway") == {"policy.fetch"}
