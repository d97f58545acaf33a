# METADATA
# title: Rules that are checked in no time
package hallmark

# METADATA
# title: The decision
# entrypoint: true
decision := {"verdict": "allow"} if {
	allow
} else := {"verdict": "deny", "reasons": [{"code": "no_rule", "detail": "no rule allows this"}]}

# METADATA
# title: Services may
default allow := false

allow if {
	input.subject.type == "service"
	data.settings.max_attestation_age != "never"
}
