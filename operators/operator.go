// Package operators is the register of people: who may manage this server, in
// which roles and for which part of the fleet, and by which certificates they
// are known.
//
// A certificate of the operators' authority alone admits nobody. Each one that
// is issued stands here, and the register is asked on every request, so that who
// is suspended, removed or robbed of a certificate is out at once, on connections
// that stand as well as on new ones. What a role may do is not decided here: roles
// and scopes are words that policy gives their meaning.
//
// For the day when nobody is left who may do anything there is break-glass: a
// key that two people hold half of each, good for one hour, once.
package operators

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// State is where an operator stands. The zero State has no rights.
type State string

// The states.
const (
	Active    State = "active"
	Suspended State = "suspended" // may do nothing until somebody resumes them
	Removed   State = "removed"   // may do nothing ever again; the name is not given twice
)

// Operator is one person of the register.
type Operator struct {
	Name         string        `json:"name"` // as it stands in the common name of their certificates
	Roles        []Role        `json:"roles"`
	State        State         `json:"state"`
	Reason       string        `json:"reason,omitempty"` // why they were suspended or removed
	Binding                    // by which they are known to the identity provider; zero: they do not sign in there
	Created      time.Time     `json:"created"`
	By           string        `json:"created_by,omitempty"` // the operator who added them; empty: the server
	Changed      time.Time     `json:"changed"`
	ChangedBy    string        `json:"changed_by,omitempty"`
	Breakglass   *Opened       `json:"breakglass,omitempty"`   // set for a caller who came by break-glass, and for nobody else
	Certificates []Certificate `json:"certificates,omitempty"` // newest first; only where one operator is shown
}

// Binding says by what an operator is known to an identity provider. With a
// Subject that alone counts. An Email counts until the first sign-in, which
// puts the Subject beside it for good: addresses change hands, subjects do not.
type Binding struct {
	Issuer  string `json:"oidc_issuer,omitempty"`  // of the provider
	Subject string `json:"oidc_subject,omitempty"` // sub (OpenID Connect Core 1.0, Section 2), unique at its issuer
	Email   string `json:"oidc_email,omitempty"`   // in lower case, unique at its issuer
}

// Bound reports whether it binds to anything.
func (b Binding) Bound() bool { return b.Subject != "" || b.Email != "" }

// Role is one role that an operator has, for everything or for a part of the fleet.
type Role struct {
	Name  string `json:"role"`
	Scope Scope  `json:"scope,omitzero"`
}

// Scope is a part of the fleet: what has all of the properties that it names.
// The zero Scope is everything.
type Scope struct {
	Profile string            `json:"profile,omitempty"`
	Model   string            `json:"model,omitempty"`
	Batch   string            `json:"batch,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
}

// IsZero reports whether the scope is everything.
func (s Scope) IsZero() bool {
	return s.Profile == "" && s.Model == "" && s.Batch == "" && len(s.Labels) == 0
}

// Certificate is one certificate of an operator.
type Certificate struct {
	SHA256   string    `json:"sha256"` // over the DER, lower-case hex
	Serial   string    `json:"serial"` // lower-case hex
	Issued   time.Time `json:"issued"`
	NotAfter time.Time `json:"not_after"`
	Revoked  time.Time `json:"revoked,omitzero"` // zero: it is not
	Reason   string    `json:"reason,omitempty"` // why it was revoked
}

// Bounds of what an operator's entry may hold.
const (
	maxRoles  = 32
	maxText   = 200 // bytes of a scope's property
	maxReason = 1000
	maxLabels = 8
)

// A name stands in certificates, paths and logs. Names of callers by break-glass begin
// with a prefix of their own, so that nobody can be added who looks like one.
var (
	validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$`)
	validRole = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,31}$`)
)

// Check returns what is wrong with the name, roles and binding of somebody who is to be added.
func (o *Operator) Check() error {
	switch {
	case !validName.MatchString(o.Name):
		return fault.New(fault.Malformed, "operator_name", "an operator's name has 1 to 64 characters A-Z a-z 0-9 . _ @ + - and starts with a letter or digit")
	case strings.HasPrefix(o.Name, breakglassPrefix):
		return fault.New(fault.Malformed, "operator_name", "names that begin with "+breakglassPrefix+" are for break-glass")
	}
	if err := o.Binding.check(); err != nil {
		return err
	}
	return checkRoles(o.Roles)
}

// longestSubject is how long a sub may be (OpenID Connect Core 1.0, Section 2), and an email address.
const longestSubject = 255

func (b *Binding) check() error {
	switch {
	case len(b.Subject) > longestSubject || !plain(b.Subject):
		return fault.New(fault.Malformed, "oidc_subject", fmt.Sprintf("an OIDC subject is printable text of at most %d bytes", longestSubject))
	case len(b.Email) > longestSubject || !plain(b.Email) || b.Email != "" && !strings.Contains(b.Email, "@"):
		return fault.New(fault.Malformed, "oidc_email", fmt.Sprintf("an OIDC email address is printable text with an @, of at most %d bytes", longestSubject))
	}
	return nil
}

// checkRoles returns what is wrong with roles that somebody is to have.
func checkRoles(roles []Role) error {
	if len(roles) == 0 || len(roles) > maxRoles {
		return fault.New(fault.Malformed, "operator_roles", fmt.Sprintf("an operator has 1 to %d roles", maxRoles))
	}
	for _, r := range roles {
		if !validRole.MatchString(r.Name) {
			return fault.New(fault.Malformed, "operator_roles", "a role's name has 1 to 32 characters a-z 0-9 _ - and starts with a letter")
		}
		if err := r.Scope.check(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Scope) check() error {
	texts := []string{s.Profile, s.Model, s.Batch}
	for name, value := range s.Labels {
		if name == "" || value == "" {
			return fault.New(fault.Malformed, "operator_scope", "a label of a scope has a name and a value")
		}
		texts = append(texts, name, value)
	}
	for _, text := range texts {
		if len(text) > maxText || !plain(text) {
			return fault.New(fault.Malformed, "operator_scope", fmt.Sprintf("a scope's properties are printable text of at most %d bytes", maxText))
		}
	}
	if len(s.Labels) > maxLabels {
		return fault.New(fault.Malformed, "operator_scope", fmt.Sprintf("a scope has at most %d labels", maxLabels))
	}
	return nil
}

func checkReason(reason string) error {
	if len(reason) > maxReason || !plain(reason) {
		return fault.New(fault.Malformed, "reason_length", fmt.Sprintf("a reason is printable text of at most %d bytes", maxReason))
	}
	return nil
}

// plain reports whether text survives databases, logs and terminals.
func plain(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}

// Describe lays roles out as rules see them: "roles", the names in
// alphabetical order, and "scopes", for each role that is not held for
// everything the parts that it is held for.
func Describe(roles []Role) policy.Properties {
	names, everywhere := []string{}, map[string]bool{}
	for _, r := range roles {
		names = append(names, r.Name)
		everywhere[r.Name] = everywhere[r.Name] || r.Scope.IsZero()
	}
	slices.Sort(names)
	scopes := map[string]any{}
	for _, r := range roles {
		if !everywhere[r.Name] {
			held, _ := scopes[r.Name].([]any)
			scopes[r.Name] = append(held, r.Scope.properties())
		}
	}
	return policy.Properties{"roles": slices.Compact(names), "scopes": scopes}
}

func (s *Scope) properties() map[string]any {
	p := map[string]any{}
	for name, value := range map[string]string{"profile": s.Profile, "model": s.Model, "batch": s.Batch} {
		if value != "" {
			p[name] = value
		}
	}
	if len(s.Labels) > 0 {
		labels := map[string]any{}
		for name, value := range s.Labels {
			labels[name] = value
		}
		p["labels"] = labels
	}
	return p
}

// Resource is the operator as rules see somebody who is acted upon.
func (o *Operator) Resource() policy.Entity {
	p := Describe(o.Roles)
	p["state"] = string(o.State)
	return policy.Entity{Type: "operator", ID: o.Name, Properties: p}
}
