# Tests of the default policy's rules about TPMs.
package hallmark_test

import data.hallmark

ek := {"sha256": "e1", "manufacturer": "id:494E5443", "trusted": true}

# Evidence of a key in a TPM with nothing to hold its boot against, and of one
# that booted what its baseline allows.
attested := {"verdict": "none", "case": "C", "ek": ek, "key": {"tpm_resident": true, "fixed": true}, "fresh": true, "boot": {"log_replayed": true}}

affirmed := object.union(attested, {"verdict": "affirming"})

bound := {"ek_sha256": "e1", "case": "C", "verdict": "none", "last": "2026-11-20T21:00:00.000Z"}

with_evidence(action, auth, evidence, bond) := object.union(
	ask(action, "device", auth, known("active")),
	{"context": {"attestation": evidence, "bond": bond}},
)

enrols(evidence) := decide(with_evidence("certificate.issue", by_token, evidence, {}))

renews(evidence, bond) := decide(with_evidence("certificate.renew", by_certificate, evidence, bond))

under(changed, question) := answer if {
	answer := hallmark.decision with input as question with data.settings as object.union(settings, changed)
}

test_a_device_in_service_attests if {
	decide(ask("device.attest", "device", by_certificate, known("active"))).verdict == "allow"
	code(decide(ask("device.attest", "device", by_token, known("active")))) == ["no_rule"]
	code(decide(ask("device.attest", "device", by_certificate, known("quarantined")))) == ["device_quarantined"]
}

test_a_known_tpm_gets_its_key_certified if {
	by_activation := {"method": "activation", "ek_sha256": "e1"}
	decide(ask("attestation.certify", "device", by_activation, known("expected"))).verdict == "allow"
	every auth in [by_token, by_certificate, {}] {
		code(decide(ask("attestation.certify", "device", auth, known("active")))) == ["no_rule"]
	}
}

test_operators_do_not_do_what_devices_do if {
	every action in ["device.attest", "attestation.certify"] {
		code(operate("ada", action)) == ["not_permitted"]
	}
}

test_the_tpm_of_an_unknown_maker_waits_for_a_person if {
	unknown := object.union(affirmed, {"reasons": ["ek_untrusted", "clock_unsafe"], "ek": {"trusted": false}})
	answer := enrols(unknown)
	answer.verdict == "hold"
	code(answer) == ["ek_untrusted"]
	approved := object.union(with_evidence("certificate.issue", by_token, unknown, {}), {"context": {"approval": {"id": "r1"}}})
	decide(approved).verdict == "allow"
	renews(unknown, object.union(bound, {"affirmed": "2026-11-20T21:00:00.000Z"})) == {"verdict": "allow"}
	renews(unknown, object.union(bound, {"ek_sha256": "e2"})).verdict == "hold"
	renews(unknown, {}).verdict == "hold"
}

test_other_reasons_do_not_wait if {
	enrols(object.union(affirmed, {"reasons": ["clock_unsafe"]})) == {"verdict": "allow"}
}

test_an_advisory_denies_or_only_warns if {
	broken := [{"id": "A-1", "action": "deny", "text": "leaks keys"}, {"id": "A-2", "action": "warn", "text": "is slow"}]
	answer := enrols(object.union(affirmed, {"advisories": broken}))
	code(answer) == ["advisory"]
	some reason in answer.reasons
	contains(reason.detail, "A-1")
	enrols(object.union(affirmed, {"advisories": [broken[1]]})) == {"verdict": "allow"}
}

test_what_is_contraindicated_is_denied if {
	code(enrols(object.union(attested, {"verdict": "contraindicated"}))) == ["contraindicated"]
}

changed := object.union(attested, {"verdict": "warning", "boot": {"changed": [4, 7]}})

test_a_changed_boot_is_quarantined if {
	answer := renews(changed, bound)
	answer.verdict == "deny"
	answer.obligations == [{"type": "quarantine"}]
	some reason in answer.reasons
	reason.code == "baseline_mismatch"
	contains(reason.detail, "PCR 4, 7 changed")
	contains(reason.detail, "hallmark attestation show gw-1")
}

test_a_setting_says_what_a_changed_boot_means if {
	question := with_evidence("certificate.renew", by_certificate, changed, bound)
	under({"on_boot_change": "quarantine"}, question).obligations == [{"type": "quarantine"}]
	under({"on_boot_change": "qurantine"}, question).obligations == [{"type": "quarantine"}]
	denied := under({"on_boot_change": "deny"}, question)
	code(denied) == ["baseline_mismatch"]
	not denied.obligations
	under({"on_boot_change": "allow"}, question).verdict == "allow"
}

test_no_change_is_no_change if {
	renews(object.union(affirmed, {"boot": {"changed": []}}), bound).verdict == "allow"
}

test_certificates_are_short_until_a_boot_was_affirmed if {
	enrols(attested) == {"verdict": "allow", "lifetime": "4h"}
	renews(attested, bound).lifetime == "4h"
	renews({"verdict": "none"}, bound).lifetime == "4h"
	enrols(affirmed) == {"verdict": "allow"}
	renews(affirmed, bound) == {"verdict": "allow"}
	renews(attested, object.union(bound, {"affirmed": "2026-11-20T21:00:00.000Z"})) == {"verdict": "allow"}
	decide(ask("certificate.issue", "device", by_token, known("active"))) == {"verdict": "allow"}
}

test_the_short_lifetime_is_a_setting if {
	question := with_evidence("certificate.issue", by_token, attested, {})
	under({"unaffirmed_lifetime": "90m"}, question).lifetime == "90m"
	under({"unaffirmed_lifetime": ""}, question) == {"verdict": "allow"}
	under({"unaffirmed_lifetime": "48h"}, question) == {"verdict": "allow"}
}

test_old_evidence_does_not_renew_for_ever if {
	old := with_evidence("certificate.renew", by_certificate, {"verdict": "none"}, bound)
	answer := under({"max_attestation_age": "48h"}, old)
	code(answer) == ["attestation_too_old"]
	under({"max_attestation_age": "96h"}, old).verdict == "allow"
	under({"max_attestation_age": ""}, old).verdict == "allow"
	fresh := with_evidence("certificate.renew", by_certificate, attested, bound)
	under({"max_attestation_age": "48h"}, fresh).verdict == "allow"
	never := ask("certificate.renew", "device", by_certificate, known("active"))
	under({"max_attestation_age": "48h"}, never).verdict == "allow"
}

aged(last) := object.union(bound, {"last": last, "affirmed": last})

table := {"attestation_lifetimes": [{"older_than": "48h", "lifetime": "12h"}, {"older_than": "24h", "lifetime": "20h"}, {"older_than": "1000h", "lifetime": "6h"}]}

test_older_evidence_makes_shorter_certificates if {
	every last, lifetime in {"2026-11-22T20:00:00.000Z": "20h", "2026-11-21T20:00:00.000Z": "12h"} {
		question := with_evidence("certificate.renew", by_certificate, {"verdict": "none"}, aged(last))
		under(table, question) == {"verdict": "allow", "lifetime": lifetime}
	}
	young := with_evidence("certificate.renew", by_certificate, {"verdict": "none"}, aged("2026-11-23T20:00:00.000Z"))
	under(table, young) == {"verdict": "allow"}
	fresh := with_evidence("certificate.renew", by_certificate, affirmed, aged("2026-11-01T20:00:00.000Z"))
	under(table, fresh) == {"verdict": "allow"}
	never := ask("certificate.renew", "device", by_certificate, known("active"))
	under(table, never) == {"verdict": "allow"}
}

test_rules_that_lengthen_are_shortened_too if {
	question := with_evidence("certificate.renew", by_certificate, {"verdict": "none"}, bound)
	longer := hallmark.decision with input as question with data.settings as settings with hallmark.terms as {"lifetime": "48h"}
	longer == {"verdict": "allow", "lifetime": "4h"}
	shorter := hallmark.decision with input as question with data.settings as settings with hallmark.terms as {"lifetime": "1h"}
	shorter == {"verdict": "allow", "lifetime": "1h"}
}
