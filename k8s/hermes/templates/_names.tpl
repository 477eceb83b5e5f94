{{/* Names and labels. A component is a part of the service with pods of its own; `ingest` is one. */}}

{{- define "hermes.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{/* Short enough for the longest suffix that a template adds. */}}
{{- define "hermes.fullname" -}}
{{- $name := include "hermes.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- .Values.fullnameOverride | default $full | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "hermes.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "hermes.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end }}

{{- define "hermes.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end -}}
{{- end -}}
{{- end }}

{{/* What a workload and its Services select by: list of the root and the component. It can never change. */}}
{{- define "hermes.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "hermes.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "hermes.labels" -}}
{{- $root := index . 0 -}}
{{ include "hermes.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 }}
{{- end }}
