# METADATA
# title: Hallmark's decision
# description: |
#   The server asks data.hallmark.decision before it does anything for anybody.
#   One deny outweighs every allow, a hold waits for a person, and what no rule
#   allows is denied. Add rules in files of your own: package hallmark, and one
#   more deny, hold or allow. Day-to-day lists live in data.json.
package hallmark

# METADATA
# title: The decision
# description: |
#   {"verdict": "allow"|"hold"|"deny", "reasons": [{"code", "detail"}]}; with an
#   allow whatever terms say: "profile", "lifetime", "obligations"; and with a
#   deny what consequences say: "obligations".
# entrypoint: true
decision := object.union({"verdict": "deny", "reasons": deny}, consequences) if {
	deny != set()
} else := {"verdict": "deny", "reasons": [no_rule]} if {
	not allow
} else := {"verdict": "hold", "reasons": hold} if {
	hold != set()
} else := object.union({"verdict": "allow"}, terms)

# Of all lifetimes that rules give one certificate, the shortest counts, and
# none is longer than what the profile would have given.
terms["lifetime"] := shortest[0] if {
	lifetimes != set()
	least := min({time.parse_duration_ns(lifetime) | some lifetime in lifetimes})
	least < input.action.properties.lifetime_s * 1000000000
	shortest := [lifetime | some lifetime in lifetimes; time.parse_duration_ns(lifetime) == least]
}

no_rule := {"code": "no_rule", "detail": detail} if {
	detail := sprintf("no rule allows %s to %s %q", [input.action.name, input.subject.type, input.subject.id])
} else := {"code": "no_rule", "detail": "no rule allows this"}
