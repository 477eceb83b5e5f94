{{/* The pod of the ingest component, the same in a Deployment and in a StatefulSet; and what every pod here may not do. */}}

{{- define "hermes.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "hermes.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "hermes.secretsFolder" -}}/run/hermes/secrets{{- end }}
{{- define "hermes.tlsFolder" -}}/run/hermes/tls{{- end }}
{{- define "hermes.dataFolder" -}}/var/lib/hermes{{- end }}

{{/* A volume with one file for each of these secrets: list of name and reference by name. */}}
{{- define "hermes.secretsVolume" -}}
name: secrets
projected:
  defaultMode: 0440
  sources:
    {{- range $name, $reference := . }}
    - secret:
        name: {{ $reference.secret }}
        items:
          - key: {{ $reference.key }}
            path: {{ $name }}
    {{- end }}
{{- end }}

{{- define "hermes.probe" -}}
httpGet:
  path: {{ index . 1 }}
  port: http
  {{- if (index . 0).Values.ingest.tls.secret }}
  scheme: HTTPS
  {{- end }}
{{- end }}

{{- define "hermes.ingestPod" -}}
{{- $ingest := .Values.ingest -}}
metadata:
  annotations:
    # A changed setting rolls the pods.
    checksum/config: {{ include (print $.Template.BasePath "/configmap.yaml") . | sha256sum }}
    {{- with $ingest.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  labels:
    {{- include "hermes.labels" (list . "ingest") | nindent 4 }}
    {{- with $ingest.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "hermes.serviceAccount" . }}
  automountServiceAccountToken: false
  # Variables that are named after other Services could be taken for settings.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "hermes.gracePeriod" . }}
  securityContext:
    {{- include "hermes.podSecurity" . | nindent 4 }}
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  {{- with $ingest.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  containers:
    - name: hermes
      image: {{ include "hermes.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      securityContext:
        {{- include "hermes.containerSecurity" . | nindent 8 }}
      ports:
        - name: http
          containerPort: 8080
        {{- if .Values.admin.expose }}
        - name: admin
          containerPort: 8081
        {{- end }}
      envFrom:
        - configMapRef:
            name: {{ include "hermes.fullname" . }}
      {{- with $ingest.extraEnv }}
      env:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      startupProbe:
        {{- include "hermes.probe" (list . "/health") | nindent 8 }}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: {{ divf $ingest.startupSeconds 2 | ceil | int }}
      livenessProbe:
        {{- include "hermes.probe" (list . "/health") | nindent 8 }}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      readinessProbe:
        {{- include "hermes.probe" (list . "/ready") | nindent 8 }}
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 2
      {{- if $ingest.preStopSeconds }}
      lifecycle:
        preStop:
          exec:
            command: [sleep, {{ $ingest.preStopSeconds | quote }}]
      {{- end }}
      {{- with $ingest.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - name: tmp
          mountPath: /tmp
        {{- if eq $ingest.durability "disk" }}
        - name: data
          mountPath: {{ include "hermes.dataFolder" . }}
        {{- end }}
        {{- if .Values.secrets }}
        - name: secrets
          mountPath: {{ include "hermes.secretsFolder" . }}
          readOnly: true
        {{- end }}
        {{- if $ingest.tls.secret }}
        - name: tls
          mountPath: {{ include "hermes.tlsFolder" . }}
          readOnly: true
        {{- end }}
        {{- with $ingest.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir:
        sizeLimit: 64Mi
    {{- if .Values.secrets }}
    - {{ include "hermes.secretsVolume" .Values.secrets | nindent 6 | trim }}
    {{- end }}
    {{- with $ingest.tls.secret }}
    - name: tls
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    {{- with $ingest.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $ingest.topologySpread }}
  topologySpreadConstraints:
    {{- range . }}
    - {{ toYaml . | nindent 6 | trim }}
      labelSelector:
        matchLabels:
          {{- include "hermes.selector" (list $ "ingest") | nindent 10 }}
    {{- end }}
  {{- end }}
  {{- with $ingest.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $ingest.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $ingest.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
