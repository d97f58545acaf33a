# METADATA
# title: Hallmark's decision
# description: |
#   The server asks data.hallmark.decision before it does anything for anybody.
#   One deny outweighs every allow, a hold waits for a person, and what no rule
#   allows is denied. Add rules in files of your own: package hallmark, and one
#   more deny, hold, allow or lifetimes. Day-to-day lists live in data.json.
#
#   A device enrols in the time that a few rules take. So each rule says first
#   what it is about, as input.X == "constant" or as a bare input.X: the
#   evaluator then passes it over for all other questions without a look inside.
package hallmark

# METADATA
# title: The decision
# description: |
#   {"verdict": "allow"|"hold"|"deny", "reasons": [{"code", "detail"}]}; with an
#   allow whatever terms say: "profile", "lifetime", "obligations"; and with a
#   deny what consequences say: "obligations". The first lines are the usual
#   case: allowed, and nothing else to be said about it.
# entrypoint: true
decision := {"verdict": "allow"} if {
	deny == set()
	allow
	hold == set()
	lifetimes == set()
	terms == {}
} else := object.union({"verdict": "deny", "reasons": deny}, consequences) if {
	deny != set()
} else := {"verdict": "deny", "reasons": [no_rule]} if {
	not allow
} else := {"verdict": "hold", "reasons": hold} if {
	hold != set()
} else := object.union_n([{"verdict": "allow"}, terms, shortened])

# METADATA
# title: The shortest of all lifetimes counts
# description: None is longer than what the profile, or terms.lifetime, would have given.
# labels:
#   control: ["IEC62443-4-2:CR1.8", "NIST800-53:SC-17"]
shortened := {"lifetime": shortest} if {
	least := min({time.parse_duration_ns(lifetime) | some lifetime in lifetimes})
	least < given_ns
	some shortest in lifetimes
	time.parse_duration_ns(shortest) == least
} else := {}

# METADATA
# title: What the certificate would live without any of the lifetimes
given_ns := time.parse_duration_ns(terms.lifetime) if {
	terms.lifetime
} else := input.action.properties.lifetime_s * 1000000000

# METADATA
# title: What no rule allows is denied
# labels:
#   control: ["IEC62443-4-2:CR2.1", "NIST800-53:AC-3"]
no_rule := {"code": "no_rule", "detail": detail} if {
	detail := sprintf("no rule allows %s to %s %q", [input.action.name, input.subject.type, input.subject.id])
} else := {"code": "no_rule", "detail": "no rule allows this"}
