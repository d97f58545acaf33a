package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"sort"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hallmark-pki/hallmark/operators"
)

const operatorPath = "/api/v1/operators/"

func operatorCommand() *cobra.Command {
	c := new(connection)
	return noun("operator", "People who manage the server: roles, scopes, certificates", c,
		operatorAdd(c), operatorList(c), operatorShow(c), operatorAssign(c),
		operatorMove(c, "suspend", "suspended", "Keep an operator out until resumed", "  hallmark operator suspend berta --reason 'on leave'"),
		operatorMove(c, "resume", "resumed", "Let a suspended operator in again", "  hallmark operator resume berta"),
		operatorMove(c, "remove", "removed", "Keep an operator out for good and revoke their certificates", "  hallmark operator remove berta --reason 'has left'"),
		operatorCertify(c), operatorRenew(c), operatorRevoke(c), breakglassCommand(c))
}

func operatorList(c *connection) *cobra.Command {
	var state string
	var page paging
	list := &cobra.Command{
		Use:     "list",
		Short:   "List operators",
		Example: "  hallmark operator list",
		Args:    takes(),
		RunE: c.verb(func(ctx context.Context, s *session, _ []string) error {
			q := url.Values{}
			putText(q, "state", state)
			return listing[operators.Operator]{
				path:    "/api/v1/operators",
				columns: []string{"NAME", "STATE", "ROLES", "CREATED", "CREATED BY"},
				row: func(o operators.Operator) []string {
					return []string{o.Name, string(o.State), rolesText(o), when(o.Created), o.By}
				},
				none: "There are no operators.",
			}.print(ctx, s, q, page)
		}),
	}
	list.Flags().StringVar(&state, "state", "", "only those who are active, suspended or removed")
	page.flags(list)
	return list
}

// rolesText is an operator's roles on one line.
func rolesText(o operators.Operator) string {
	if o.Breakglass != nil {
		return "break-glass: " + o.Breakglass.Reason
	}
	var roles []string
	for _, r := range o.Roles {
		roles = append(roles, r.Name+scopeText(r.Scope))
	}
	return strings.Join(roles, ", ")
}

func scopeText(s operators.Scope) string {
	var parts []string
	for _, part := range [][2]string{{"profile", s.Profile}, {"model", s.Model}, {"batch", s.Batch}} {
		if part[1] != "" {
			parts = append(parts, part[0]+"="+part[1])
		}
	}
	var labels []string
	for name, value := range s.Labels {
		labels = append(labels, "label."+name+"="+value)
	}
	sort.Strings(labels)
	if parts = append(parts, labels...); len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, " ") + ")"
}

func operatorShow(c *connection) *cobra.Command {
	return &cobra.Command{
		Use:     "show NAME",
		Short:   "Show one operator and their certificates",
		Example: "  hallmark operator show berta",
		Args:    takes("NAME"),
		RunE: c.verb(func(ctx context.Context, s *session, args []string) error {
			var raw json.RawMessage
			if err := s.do(ctx, "GET", operatorPath+url.PathEscape(args[0]), nil, nil, &raw); err != nil {
				return err
			}
			var o operators.Operator
			if err := json.Unmarshal(raw, &o); err != nil {
				return err
			}
			return s.print(raw, func() [][2]string { return operatorFields(o) })
		}),
	}
}

func operatorFields(o operators.Operator) [][2]string {
	pairs := [][2]string{{"name", o.Name}, {"state", string(o.State)}, {"reason", o.Reason}, {"oidc issuer", o.Issuer}, {"oidc subject", o.Binding.Subject}, {"oidc email", o.Email},
		{"created", when(o.Created)}, {"created by", o.By}, {"changed", when(o.Changed)}, {"changed by", o.ChangedBy}}
	for _, r := range o.Roles {
		pairs = append(pairs, [2]string{"role", r.Name + scopeText(r.Scope)})
	}
	for _, own := range o.Certificates {
		state := "until " + when(own.NotAfter)
		if !own.Revoked.IsZero() {
			state = "revoked " + when(own.Revoked) + " " + own.Reason
		}
		pairs = append(pairs, [2]string{"certificate", own.Serial + " " + strings.TrimSpace(state)})
	}
	return pairs
}

// operatorMove is a verb that changes an operator's state.
func operatorMove(c *connection, verb, outcome, short, example string) *cobra.Command {
	var reason string
	move := &cobra.Command{Use: verb + " NAME", Short: short, Example: example, Args: takes("NAME"),
		RunE: c.verb(func(ctx context.Context, s *session, args []string) error {
			body := object(map[string]string{"reason": reason})
			if err := s.do(ctx, "POST", operatorPath+url.PathEscape(args[0])+"/"+verb, nil, body, nil); err != nil {
				return err
			}
			return s.deed("operator", args[0], outcome)
		})}
	move.Flags().StringVar(&reason, "reason", "", "why; it goes on the record")
	return move
}

func operatorRevoke(c *connection) *cobra.Command {
	var serial, reason string
	revoke := &cobra.Command{
		Use:     "revoke NAME",
		Short:   "Revoke an operator's certificates: all, or one",
		Example: "  hallmark operator revoke berta --reason 'the laptop was stolen'",
		Args:    takes("NAME"),
		RunE: c.verb(func(ctx context.Context, s *session, args []string) error {
			body := object(map[string]any{"serial": serial, "all": serial == "", "reason": reason})
			if err := s.do(ctx, "POST", operatorPath+url.PathEscape(args[0])+"/revoke", nil, body, nil); err != nil {
				return err
			}
			return s.deed("operator", args[0], "revoked")
		}),
	}
	revoke.Flags().StringVar(&serial, "serial", "", "only the certificate with this serial number (default: all)")
	revoke.Flags().StringVar(&reason, "reason", "", "why; it goes on the record")
	return revoke
}

// roleFlags are the flags that say what an operator may do, and where.
type roleFlags struct{ roles, scopes []string }

func (f *roleFlags) flags(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.roles, "role", nil, "a role, such as viewer, line, fleet, security, approver, auditor or admin; may be given more than once")
	c.Flags().StringArrayVar(&f.scopes, "scope", nil, "hold the roles only for model=M, batch=B, profile=P or label.NAME=VALUE; several narrow it further (default: everything)")
}

// read returns the roles, each with the scope.
func (f *roleFlags) read(c *cobra.Command) ([]operators.Role, error) {
	if len(f.roles) == 0 {
		return nil, required(c, "role", "")
	}
	var scope operators.Scope
	for _, text := range f.scopes {
		name, value, ok := strings.Cut(text, "=")
		label, isLabel := strings.CutPrefix(name, "label.")
		switch {
		case !ok || value == "":
			return nil, usageError{fmt.Errorf("--scope is written name=value, not %q", text)}
		case name == "model":
			scope.Model = value
		case name == "batch":
			scope.Batch = value
		case name == "profile":
			scope.Profile = value
		case isLabel && label != "":
			if scope.Labels == nil {
				scope.Labels = map[string]string{}
			}
			scope.Labels[label] = value
		default:
			return nil, usageError{fmt.Errorf("--scope knows model, batch, profile and label.NAME, not %q", name)}
		}
	}
	roles := make([]operators.Role, len(f.roles))
	for i, role := range f.roles {
		roles[i] = operators.Role{Name: role, Scope: scope}
	}
	return roles, nil
}

func operatorAssign(c *connection) *cobra.Command {
	var wanted roleFlags
	var binding bindingFlags
	assign := &cobra.Command{
		Use:   "assign NAME",
		Short: "Give an operator other roles, in place of those that they have, or say who they are to the identity provider",
		Example: "  hallmark operator assign berta --role line --scope model=gw-2\n" +
			"  hallmark operator assign berta --oidc 4711   # or none: they sign in no more",
		Args: takes("NAME"),
	}
	assign.RunE = func(command *cobra.Command, args []string) error {
		var roles []operators.Role
		if !binding.given() || len(wanted.roles)+len(wanted.scopes) > 0 {
			var err error
			if roles, err = wanted.read(command); err != nil {
				return err
			}
		}
		return c.verb(func(ctx context.Context, s *session, args []string) error {
			path := operatorPath + url.PathEscape(args[0])
			if roles != nil {
				if err := s.do(ctx, "PUT", path+"/roles", nil, object(map[string]any{"roles": roles}), nil); err != nil {
					return err
				}
			}
			if binding.given() {
				if err := s.do(ctx, "PUT", path+"/oidc", nil, object(binding.body()), nil); err != nil {
					return err
				}
			}
			return s.deed("operator", args[0], "assigned")
		})(command, args)
	}
	wanted.flags(assign)
	binding.flags(assign)
	return assign
}
