package hallmark_test

import data.hallmark

people_settings := {
	"operators": {"old": ["viewer"]},
	"roles": {"admin": ["*"], "viewer": ["*.list", "*.show"], "line": ["device.*"]},
}

asked(properties, action, resource) := decision if {
	question := {
		"subject": {"type": "user", "id": "berta", "properties": properties},
		"action": {"name": action, "properties": {"model": "gw-2"}},
		"resource": resource,
		"context": {},
	}
	decision := hallmark.decision with input as question with data.settings as people_settings
}

gateway := {"type": "device", "id": "gw-1", "properties": {"model": "gw-2", "labels": {"site": "ulm"}}}

sensor := {"type": "device", "id": "s-1", "properties": {"model": "s-1", "labels": {"site": "ulm"}}}

gateways := {"type": "device", "id": "", "properties": {}}

scoped := {"roles": ["line", "viewer"], "scopes": {"line": [{"model": "gw-2", "labels": {"site": "ulm"}}, {"batch": "7"}]}}

test_role_of_the_register if {
	asked({"roles": ["viewer"], "scopes": {}}, "device.show", gateway).verdict == "allow"
	asked({"roles": ["viewer"], "scopes": {}}, "device.retire", gateway).verdict == "deny"
	asked({"roles": [], "scopes": {}}, "device.show", gateway).verdict == "deny"
}

test_scope if {
	asked(scoped, "device.retire", gateway).verdict == "allow"
	asked(scoped, "device.retire", sensor).verdict == "deny"
	asked(scoped, "device.show", sensor).verdict == "allow" # as a viewer
	elsewhere := {"type": "device", "id": "gw-9", "properties": {"model": "gw-2", "labels": {"site": "oslo"}}}
	asked(scoped, "device.retire", elsewhere).verdict == "deny"
	asked(scoped, "device.retire", {"type": "device", "id": "gw-3", "properties": {"batch": "7"}}).verdict == "allow"
	asked(scoped, "device.retire", {"type": "device", "id": "gw-4", "properties": {"known": false}}).verdict == "deny"
}

test_scope_of_a_list if {
	asked({"roles": ["line"], "scopes": {"line": [{"model": "gw-2"}]}}, "device.list", gateways).verdict == "allow"
	asked({"roles": ["line"], "scopes": {"line": [{"model": "s-1"}]}}, "device.list", gateways).verdict == "deny"
}

test_everybody_renews_their_own_certificate if {
	asked({"roles": []}, "operator.renew", {"type": "operator", "id": "berta", "properties": {}}).verdict == "allow"
	asked({"roles": []}, "operator.renew", {"type": "operator", "id": "carl", "properties": {}}).verdict == "deny"
}

test_breakglass if {
	question := {
		"subject": {"type": "user", "id": "breakglass-1", "properties": {"roles": [], "scopes": {}}},
		"action": {"name": "device.retire", "properties": {}},
		"resource": gateway,
		"context": {"breakglass": {"reason": "locked out"}},
	}
	allowed := hallmark.decision with input as question with data.settings as people_settings
	allowed.verdict == "allow"
	unexplained := object.union(question, {"context": {"breakglass": {"reason": ""}}})
	refused := hallmark.decision with input as unexplained with data.settings as people_settings
	refused.verdict == "deny"
}

test_role_of_old_data if {
	question := {
		"subject": {"type": "user", "id": "old", "properties": {}},
		"action": {"name": "device.show", "properties": {}},
		"resource": sensor,
		"context": {},
	}
	decision := hallmark.decision with input as question with data.settings as people_settings
	decision.verdict == "allow"
}
