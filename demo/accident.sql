-- A support script for rede-aurora. Two mistakes, both committed.
BEGIN;
SELECT pgstrata.set_actor('marcos@suporte');

-- Meant: class 9C, which was created twice. Written: every class of the ninth year,
-- and the enrolments go with the students (ON DELETE CASCADE).
DELETE FROM alunos WHERE tenant_id = 'rede-aurora' AND turma LIKE '9%';

-- Meant: one product. Written: all of them.
UPDATE produtos SET preco = 0 WHERE tenant_id = 'rede-aurora';
COMMIT;
