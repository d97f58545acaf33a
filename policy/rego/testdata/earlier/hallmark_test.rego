# Tests of the default policy: hallmark policy test DIR runs them. They bring
# settings of their own, so editing data.json does not break them.
package hallmark_test

import data.hallmark

settings := {
	"hold_profiles": ["vault"],
	"admit_unknown": ["open"],
	"operators": {"ada": ["admin"], "lin": ["line"], "vic": ["viewer", "auditor"], "nobody": []},
	"roles": {"admin": ["*"], "line": ["token.create", "device.*"], "viewer": ["*.list", "*.show"], "auditor": ["audit.read"]},
}

by_token := {"method": "token", "token": "t1"}

by_idevid := {"method": "idevid", "anchor": "a1"}

by_certificate := {"method": "certificate", "serial": "5e"}

# A question of device gw-1, enrolling by default.
ask(action, profile, auth, properties) := {
	"subject": {"type": "device", "id": "gw-1", "properties": {"auth": auth}},
	"action": {"name": action, "properties": {"profile": profile, "lifetime_s": 86400}},
	"resource": {"type": "device", "id": "gw-1", "properties": properties},
	"context": {"time": "2026-11-23T21:00:00.000Z", "ip": "192.0.2.1"},
}

known(state) := {"known": true, "state": state}

decide(question) := answer if {
	answer := hallmark.decision with input as question with data.settings as settings
}

code(answer) := [reason.code | some reason in answer.reasons]

test_every_proof_gets_a_first_certificate if {
	every auth in [by_token, by_idevid, by_certificate] {
		every state in ["expected", "active"] {
			decide(ask("certificate.issue", "device", auth, known(state))) == {"verdict": "allow"}
		}
	}
}

test_a_certificate_renews if {
	decide(ask("certificate.renew", "device", by_certificate, known("active"))) == {"verdict": "allow"}
}

test_nothing_else_renews if {
	every auth in [by_token, by_idevid, {}] {
		code(decide(ask("certificate.renew", "device", auth, known("active")))) == ["no_rule"]
	}
}

test_no_proof_no_certificate if {
	code(decide(ask("certificate.issue", "device", {}, known("active")))) == ["no_rule"]
}

test_a_quarantined_device_is_denied if {
	answer := decide(ask("certificate.issue", "device", by_token, known("quarantined")))
	answer.verdict == "deny"
	code(answer) == ["device_quarantined"]
}

test_a_retired_device_is_denied_renewal if {
	answer := decide(ask("certificate.renew", "device", by_certificate, known("retired")))
	answer.verdict == "deny"
	code(answer) == ["device_retired"]
}

test_a_state_nobody_knows_has_no_rights if {
	code(decide(ask("certificate.issue", "device", by_token, known("")))) == ["no_rule"]
}

test_a_device_asks_for_itself if {
	question := object.union(ask("certificate.issue", "device", by_token, known("active")), {"subject": {"id": "gw-2"}})
	code(decide(question)) == ["no_rule"]
}

test_a_stranger_is_denied if {
	every auth in [by_token, by_idevid] {
		code(decide(ask("certificate.issue", "device", auth, {"known": false}))) == ["device_unknown"]
	}
}

test_a_stranger_with_a_factory_certificate_is_admitted_where_data_says_so if {
	answer := decide(ask("certificate.issue", "open", by_idevid, {"known": false}))
	answer == {"verdict": "allow", "obligations": [{"type": "admit"}]}
}

test_a_stranger_with_a_token_is_not_admitted if {
	code(decide(ask("certificate.issue", "open", by_token, {"known": false}))) == ["device_unknown"]
}

test_a_known_device_is_not_admitted_again if {
	decide(ask("certificate.issue", "open", by_idevid, known("active"))) == {"verdict": "allow"}
}

test_a_profile_on_hold_waits if {
	answer := decide(ask("certificate.issue", "vault", by_token, known("expected")))
	answer.verdict == "hold"
	code(answer) == ["needs_approval"]
}

test_an_approval_ends_the_wait if {
	question := object.union(
		ask("certificate.issue", "vault", by_token, known("expected")),
		{"context": {"approval": {"id": "r1", "by": "ada"}}},
	)
	decide(question) == {"verdict": "allow"}
}

test_an_approval_does_not_lift_a_quarantine if {
	question := object.union(
		ask("certificate.issue", "vault", by_token, known("quarantined")),
		{"context": {"approval": {"id": "r1", "by": "ada"}}},
	)
	code(decide(question)) == ["device_quarantined"]
}

test_renewals_do_not_wait if {
	decide(ask("certificate.renew", "vault", by_certificate, known("active"))) == {"verdict": "allow"}
}

test_a_broken_list_holds_everything if {
	every broken in [{}, {"hold_profiles": "vault"}, {"hold_profiles": null}] {
		answer := hallmark.decision with input as ask("certificate.issue", "device", by_token, known("active"))
			with data.settings as broken
		answer.verdict == "hold"
	}
}

operate(name, action) := decide({
	"subject": {"type": "user", "id": name, "properties": {"auth": {"method": "mtls", "cert_sha256": "c1"}}},
	"action": {"name": action, "properties": {}},
	"resource": {"type": "device", "id": "gw-1", "properties": {"state": "quarantined"}},
	"context": {"time": "2026-11-23T21:00:00.000Z", "ip": "192.0.2.1"},
})

test_an_admin_may_do_everything_that_people_do if {
	every action in ["token.create", "device.release", "request.approve", "backup.create", "audit.read"] {
		operate("ada", action) == {"verdict": "allow"}
	}
}

test_an_admin_is_no_device if {
	code(operate("ada", "certificate.issue")) == ["not_permitted"]
}

test_roles_bound_what_others_may_do if {
	operate("lin", "token.create").verdict == "allow"
	operate("lin", "device.quarantine").verdict == "allow"
	operate("lin", "token.revoke").verdict == "deny"
	operate("vic", "device.list").verdict == "allow"
	operate("vic", "audit.read").verdict == "allow"
	operate("vic", "device.import").verdict == "deny"
}

test_a_refused_operator_reads_what_was_refused if {
	some reason in operate("lin", "backup.create").reasons
	reason.code == "not_permitted"
	contains(reason.detail, "operator lin may not do backup.create")
}

test_operators_without_a_role_may_do_nothing if {
	every name in ["nobody", "eve"] {
		code(operate(name, "device.list")) == ["not_permitted"]
	}
}

test_anything_else_is_denied if {
	code(decide({"subject": {"type": "service", "id": "s"}, "action": {"name": "device.list"}})) == ["no_rule"]
	code(decide({})) == ["no_rule"]
}
