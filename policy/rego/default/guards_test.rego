package hallmark_test

import data.hallmark

guarded := {
	"roles": {"admin": ["*"]},
	"four_eyes": ["anchor.*", "device.unbind"],
	"windows": [
		{"actions": ["device.retire"], "days": ["Mon", "Tue"], "from": "06:00", "to": "18:00"},
		{"actions": ["device.*"], "from": "22:00", "to": "23:00"},
	],
	"rates": [{"actions": ["device.retire", "token.create"], "per_hour": 3}],
}

# 23 November 2026 is a Monday.
at_noon := {"time": "2026-11-23T12:00:00.000Z"}

by_ada(action, context) := {
	"subject": {"type": "user", "id": "ada", "properties": {"roles": ["admin"], "scopes": {}}},
	"action": {"name": action, "properties": {}},
	"resource": {"type": "device", "id": "gw-1", "properties": {"state": "active"}},
	"context": object.union(at_noon, context),
}

guard(action, context) := answer if {
	answer := hallmark.decision with input as by_ada(action, context) with data.settings as guarded
}

test_dangerous_actions_wait_for_a_second_operator if {
	every action in ["anchor.add", "anchor.remove"] {
		answer := guard(action, {})
		answer.verdict == "hold"
		code(answer) == ["four_eyes"]
		guard(action, {"approval": {"id": "r1", "by": "bob"}}).verdict == "allow"
	}
	guard("baseline.add", {}).verdict == "allow"
}

test_windows_open_and_close if {
	every time in ["2026-11-23T06:00:00.000Z", "2026-11-24T17:59:59.999Z", "2026-11-28T22:30:00.000Z"] {
		guard("device.retire", {"time": time}).verdict == "allow"
	}
	every time in ["2026-11-23T05:59:59.999Z", "2026-11-23T18:00:00.000Z", "2026-11-25T12:00:00.000Z", "2026-11-28T23:00:00.000Z"] {
		code(guard("device.retire", {"time": time})) == ["outside_window"]
	}
	code(guard("device.quarantine", {})) == ["outside_window"]
	guard("token.create", {"time": "2026-11-28T03:00:00.000Z"}).verdict == "allow"
}

test_a_window_says_when_it_is_open if {
	some reason in guard("device.quarantine", {}).reasons
	contains(reason.detail, "Mon,Tue,Wed,Thu,Fri,Sat,Sun 22:00-23:00 UTC")
}

test_nobody_does_too_much_in_an_hour if {
	guard("token.create", {"last_hour": 2}).verdict == "allow"
	guard("token.create", {}).verdict == "allow"
	code(guard("token.create", {"last_hour": 3})) == ["too_often"]
	guard("token.revoke", {"last_hour": 1000}).verdict == "allow"
}

test_breakglass_is_not_held_up if {
	came := {"breakglass": {"reason": "locked out"}, "time": "2026-11-25T12:00:00.000Z", "last_hour": 100}
	every action in ["anchor.remove", "device.retire", "token.create"] {
		guard(action, came) == {"verdict": "allow"}
	}
}

test_a_broken_list_stops_everybody if {
	every name in ["four_eyes", "windows", "rates"] {
		question := by_ada("device.list", {})
		answer := hallmark.decision with input as question with data.settings as object.union(settings, {name: "anchor.*"})
		"settings_broken" in code(answer)
		missing := hallmark.decision with input as question with data.settings as settings
		missing.verdict == "allow"
	}
}

test_devices_are_not_guarded if {
	stopped := object.union(settings, {"four_eyes": ["*"], "windows": [{"actions": ["*"]}], "rates": "?"})
	question := ask("certificate.issue", "device", by_token, known("active"))
	answer := hallmark.decision with input as question with data.settings as stopped
	answer == {"verdict": "allow"}
}
